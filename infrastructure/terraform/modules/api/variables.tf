# As the parameters of infrastructure/cloudformation/api.yaml; its Rules are validations.

variable "updater_api_alias_arn" {
  description = "The output updater_api_alias_arn of module hub, the alias whose callers the updater takes for verified."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_-]{1,64}:api$", var.updater_api_alias_arn))
    error_message = "updater_api_alias_arn must be the ARN of the updater's alias `api`"
  }
}

variable "history_alias_arn" {
  description = "The output history_alias_arn of module hub."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{1,128}$", var.history_alias_arn))
    error_message = "history_alias_arn must be the ARN of an alias of the history function"
  }
}

variable "api_authorization" {
  description = "How the door knows its callers. IAM, by signed requests; COGNITO, by id tokens of a user pool; LAMBDA, by what an authorizer function says."
  type        = string
  default     = "IAM"

  validation {
    condition     = contains(["IAM", "COGNITO", "LAMBDA"], var.api_authorization)
    error_message = "api_authorization must be IAM, COGNITO or LAMBDA"
  }
}

variable "user_pool_arn" {
  description = "With COGNITO, the user pool. Every user of it may then do everything that the door does."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:cognito-idp:[a-z0-9-]+:[0-9]{12}:userpool/[A-Za-z0-9_-]{1,55})?$", var.user_pool_arn))
    error_message = "user_pool_arn must be the ARN of a Cognito user pool, or empty"
  }

  validation {
    condition     = var.api_authorization != "COGNITO" || var.user_pool_arn != ""
    error_message = "With api_authorization COGNITO, user_pool_arn is needed."
  }
}

variable "authorizer_function_arn" {
  description = "With LAMBDA, the authorizer (of the type REQUEST), in this account. Its principalId is kept as requested_by."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_-]{1,64}(:[A-Za-z0-9_$-]{1,128})?)?$", var.authorizer_function_arn))
    error_message = "authorizer_function_arn must be the ARN of a Lambda function, with or without an alias, or empty"
  }

  validation {
    condition     = var.api_authorization != "LAMBDA" || var.authorizer_function_arn != ""
    error_message = "With api_authorization LAMBDA, authorizer_function_arn is needed."
  }
}

variable "organization_id" {
  description = "With IAM, the organization whose other accounts may let their principals call. Left empty, only this account's principals can."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(o-[a-z0-9]{10,32})?$", var.organization_id))
    error_message = "organization_id must be an organization id such as o-a1b2c3d4e5, or empty"
  }

  validation {
    condition     = var.api_authorization == "IAM" || var.organization_id == ""
    error_message = "organization_id is for api_authorization IAM."
  }
}

variable "requests_per_second" {
  description = "Requests that the stage takes per second, all callers together; what is beyond gets 429."
  type        = number
  default     = 20

  validation {
    condition     = var.requests_per_second >= 1 && var.requests_per_second <= 10000
    error_message = "requests_per_second must be 1 to 10000"
  }
}

variable "requests_at_once" {
  description = "Requests that the stage takes at once, after it was quiet."
  type        = number
  default     = 40

  validation {
    condition     = var.requests_at_once >= 1 && var.requests_at_once <= 5000
    error_message = "requests_at_once must be 1 to 5000"
  }
}

variable "account_log_role" {
  description = "API Gateway writes logs with one role per account and region. EXISTING, there is one; CREATE, make one and set it, for all APIs of this account and region."
  type        = string
  default     = "EXISTING"

  validation {
    condition     = contains(["EXISTING", "CREATE"], var.account_log_role)
    error_message = "account_log_role must be EXISTING or CREATE"
  }
}

variable "log_retention_days" {
  description = "How long the access log is kept."
  type        = number
  default     = 365

  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days
    )
    error_message = "log_retention_days must be a number of days that CloudWatch Logs has, such as 30, 365 or 3653"
  }
}

variable "data_key_arn" {
  description = "KMS key that logs are encrypted with; its policy has to let CloudWatch Logs use it (docs/DEPLOY.md). Left empty, keys of AWS."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]{1,64})?$", var.data_key_arn))
    error_message = "data_key_arn must be the ARN of a KMS key, or empty"
  }
}

variable "notices_topic_arn" {
  description = "The output notices_topic_arn of module hub, which hears when the door itself is broken. Left empty, there is no alarm."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256})?$", var.notices_topic_arn))
    error_message = "notices_topic_arn must be the ARN of an SNS topic, or empty"
  }
}

variable "tampering_queue_arn" {
  description = "The output tampering_queue_arn of module hub, which hears of changes of the API. Left empty, nothing does."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,80})?$", var.tampering_queue_arn))
    error_message = "tampering_queue_arn must be the ARN of an SQS queue, or empty"
  }
}

variable "metrics_namespace" {
  description = "CloudWatch namespace of the door's metric, as that of module hub."
  type        = string
  default     = "EcsUpdater"

  validation {
    condition     = can(regex("^[A-Za-z0-9._/#-]{1,255}$", var.metrics_namespace))
    error_message = "metrics_namespace must be 1 to 255 letters, digits and . _ / # -"
  }
}

# ---- what CloudFormation does by itself ----

variable "name" {
  description = "What the API is called, and what the names of the rest begin with."
  type        = string
  default     = "ecs-updater-api"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must be at most 24 lower-case letters, digits and hyphens, beginning with a letter"
  }
}

variable "alarm" {
  description = "Whether there is the alarm. Left null, where there is a notices_topic_arn; to be said where another module of the same apply makes the topic, whose ARN is not known before."
  type        = bool
  default     = null
}

variable "watch" {
  description = "Whether changes are told. Left null, where there is a tampering_queue_arn; to be said where another module of the same apply makes the queue, whose ARN is not known before."
  type        = bool
  default     = null
}

variable "keep_records" {
  description = "Whether the access log outlives the rest."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of everything that can have them, beside ecs-updater-terraform, which names the module."
  type        = map(string)
  default     = {}
}
