# As the parameters of infrastructure/cloudformation/target-role.yaml, by the same names, with the same defaults and
# patterns; tests/e2e/test_terraform.py compares them.

variable "updater_role_arn" {
  description = "The updater's role, output updater_role_arn of module hub."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]{1,576}$", var.updater_role_arn))
    error_message = "updater_role_arn must be the ARN of an IAM role"
  }
}

variable "organization_id" {
  description = "The organization that hub and target belong to. Left empty, for an account that is in none, no organization is asked for."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(o-[a-z0-9]{10,32})?$", var.organization_id))
    error_message = "organization_id must be an organization id such as o-a1b2c3d4e5, or empty"
  }
}

variable "external_id" {
  description = "The hub's external_id. Left empty, none is asked for."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9_+=,.@:/-]{2,})?$", var.external_id)) && length(var.external_id) <= 1224
    error_message = "external_id must be 2 to 1224 of the characters an external id may have, or empty"
  }
}

variable "task_role_arns" {
  description = "The task roles and task execution roles of the services that may be updated. `*` may stand for the account and at the end of a name. Left empty, task definitions with roles cannot be registered."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for arn in var.task_role_arns : can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|\\*):role/[A-Za-z0-9_+=.@/-]+\\*?$", arn))
    ])
    error_message = "task_role_arns must be ARNs of IAM roles"
  }
}

variable "infrastructure_role_arns" {
  description = "The roles that services hand to ECS itself (volumes, Service Connect, VPC Lattice, load balancers), as in task_role_arns. Left empty, services with such roles can be updated only where they stay."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for arn in var.infrastructure_role_arns : can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|\\*):role/[A-Za-z0-9_+=.@/-]+\\*?$", arn))
    ])
    error_message = "infrastructure_role_arns must be ARNs of IAM roles"
  }
}

variable "reader_principal_arns" {
  description = "The roles of the hub account that may assume this account's reader role: whoever looks for services with `ecs-updater targets`. `*` and `?` may stand within a name. Left empty, there is no reader role."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for arn in var.reader_principal_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=.@-][A-Za-z0-9_+=.@/*?-]*$", arn))
    ])
    error_message = "reader_principal_arns must be ARNs of IAM roles"
  }
}

# ---- what CloudFormation does by itself ----

variable "tags" {
  description = "Tags of everything that can have them, beside ecs-updater-terraform, which names the module."
  type        = map(string)
  default     = {}
}
