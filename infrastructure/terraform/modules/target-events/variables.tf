# As the parameters of infrastructure/cloudformation/target-events.yaml.

variable "hub_event_bus_arn" {
  description = "The hub's event bus, output event_bus_arn of module hub."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{12}:event-bus/[A-Za-z0-9._/-]{1,256}$", var.hub_event_bus_arn))
    error_message = "hub_event_bus_arn must be the ARN of an event bus"
  }
}

variable "notices_topic_arn" {
  description = "SNS topic of this account or another, in this region, that also hears of this module's alarms. Left empty, the hub alone does."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256})?$", var.notices_topic_arn))
    error_message = "notices_topic_arn must be the ARN of an SNS topic, or empty"
  }
}

# ---- what CloudFormation does by itself ----

variable "tags" {
  description = "Tags of everything that can have them, beside ecs-updater-terraform, which names the module."
  type        = map(string)
  default     = {}
}
