# As the parameters of infrastructure/cloudformation/global-events.yaml.

variable "hub_region" {
  description = "The region of the hub; another than this one."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2,}(-[a-z]+)+-[0-9]+$", var.hub_region))
    error_message = "hub_region must be a region such as eu-west-1"
  }
}

# ---- what CloudFormation does by itself ----

variable "tags" {
  description = "Tags of everything that can have them, beside ecs-updater-terraform, which names the module."
  type        = map(string)
  default     = {}
}
