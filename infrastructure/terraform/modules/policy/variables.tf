variable "document" {
  description = "Name of a document, without its ending."
  type        = string
}

variable "folder" {
  description = "Where the document is, from the root of this repository."
  type        = string
  default     = "policies"
}

variable "tokens" {
  description = "What the document's tokens stand for: their names without the underscores around them, each with a string or a list of strings."
  type        = any
  default     = {}
}

variable "without" {
  description = "Condition keys and statements (by Sid) that this deployment does not have."
  type        = set(string)
  default     = []
}
