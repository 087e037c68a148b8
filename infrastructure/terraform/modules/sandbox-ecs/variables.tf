# As the parameters of infrastructure/cloudformation/sandbox-ecs.yaml.

variable "cluster_name" {
  description = "The cluster's name."
  type        = string
  default     = "ECSCluster"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.cluster_name))
    error_message = "cluster_name must be a name of letters, digits, _ and -"
  }
}

variable "dummy_service" {
  description = "Whether the cluster has the dummy service: present or absent."
  type        = string
  default     = "present"

  validation {
    condition     = contains(["present", "absent"], var.dummy_service)
    error_message = "dummy_service must be present or absent"
  }
}

variable "service_name" {
  description = "The dummy service's name."
  type        = string
  default     = "ecs-dummy-service"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.service_name))
    error_message = "service_name must be a name of letters, digits, _ and -"
  }
}

variable "image" {
  description = "The image that the service begins with. It needs a shell. The events of tests/events expect `busybox`, which is Docker Hub's."
  type        = string
  default     = "public.ecr.aws/docker/library/busybox:stable"

  validation {
    condition     = can(regex("^[A-Za-z0-9][!-~]{0,511}$", var.image))
    error_message = "image must be an image reference"
  }
}

variable "desired_count" {
  description = "How many tasks run. Each costs while it runs; 0 to change a service that costs nothing."
  type        = number
  default     = 1

  validation {
    condition     = var.desired_count >= 0 && var.desired_count <= 10
    error_message = "desired_count must be 0 to 10"
  }
}

variable "architecture" {
  description = "The processors that the tasks run on."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "architecture must be X86_64 or ARM64"
  }
}

variable "subnet_ids" {
  description = "Subnets with a route to the internet, output subnet_ids of module sandbox-vpc."
  type        = list(string)
}

variable "security_group_id" {
  description = "The tasks' security group, output security_group_id of module sandbox-vpc."
  type        = string

  validation {
    condition     = can(regex("^sg-[0-9a-f]{8,17}$", var.security_group_id))
    error_message = "security_group_id must be the id of a security group"
  }
}

variable "log_retention_days" {
  description = "How long the tasks' log is kept. It goes with the rest."
  type        = number
  default     = 7

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90], var.log_retention_days)
    error_message = "log_retention_days must be 1, 3, 5, 7, 14, 30, 60 or 90"
  }
}

# ---- what CloudFormation does by itself ----

variable "tags" {
  description = "Tags of everything that can have them, beside ecs-updater-terraform, which names the module; but not of the service: its tags are what the updater changes."
  type        = map(string)
  default     = {}
}
