# As the parameters of infrastructure/cloudformation/sandbox-vpc.yaml.

variable "vpc_cidr" {
  description = "The VPC's IPv4 addresses. Each subnet gets 256 of them."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = can(regex("^(10|172|192)(\\.[0-9]{1,3}){3}/(1[6-9]|2[0-3])$", var.vpc_cidr))
    error_message = "vpc_cidr must be a private range of /16 to /23, such as 10.20.0.0/16"
  }
}

# ---- what CloudFormation does by itself ----

variable "name" {
  description = "What everything is called (tag Name)."
  type        = string
  default     = "ecs-updater-sandbox"
}

variable "tags" {
  description = "Tags of everything that can have them, beside Name, and ecs-updater-terraform, which names the module."
  type        = map(string)
  default     = {}
}
