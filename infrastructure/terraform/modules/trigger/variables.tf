# As the parameters of infrastructure/cloudformation/trigger.yaml.

variable "code_bucket" {
  description = "S3 bucket, in this region, that holds the packages."
  type        = string

  validation {
    condition     = length(var.code_bucket) >= 3 && length(var.code_bucket) <= 63
    error_message = "code_bucket must have 3 to 63 characters"
  }
}

variable "code_key" {
  description = "Key of the trigger's package."
  type        = string

  validation {
    condition     = length(var.code_key) >= 1 && length(var.code_key) <= 128
    error_message = "code_key must have 1 to 128 characters"
  }
}

variable "code_version" {
  description = "Version of that object, where the bucket keeps versions. Left empty, the latest."
  type        = string
  default     = ""

  validation {
    condition     = length(var.code_version) <= 64
    error_message = "code_version must have at most 64 characters"
  }
}

variable "architecture" {
  description = "What the package was built for."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64"
  }
}

variable "code_signing_config_arn" {
  description = "Lambda code signing configuration that says whose signed packages the function may run; the package at the key above must be the signed one. Left empty, any package."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:code-signing-config:csc-[a-z0-9]{17})?$", var.code_signing_config_arn))
    error_message = "code_signing_config_arn must be the ARN of a Lambda code signing configuration, or empty"
  }
}

variable "updater_alias" {
  description = "The output updater_alias_arn of module hub."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_-]{1,64}:live$", var.updater_alias))
    error_message = "updater_alias must be the ARN of the updater's alias `live`"
  }
}

variable "registry_repository_arns" {
  description = "ARNs of the ECR repositories of the mapping; `*` may stand for a part."
  type        = list(string)

  validation {
    condition = length(var.registry_repository_arns) > 0 && alltrue([
      for arn in var.registry_repository_arns : can(regex("^arn:aws[a-z-]*:ecr:[a-z0-9*-]+:([0-9]{12}|\\*):repository/[a-z0-9*._/-]+$", arn))
    ])
    error_message = "registry_repository_arns must be ARNs of ECR repositories, one at least"
  }
}

variable "repository_names" {
  description = "Names of the ECR repositories of the mapping, such as team/app. Pushes to others are not heard. Left empty, all are."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.repository_names : can(regex("^[a-z0-9][a-z0-9._/-]{1,255}$", name))])
    error_message = "repository_names must be names of ECR repositories"
  }
}

variable "trigger_mapping" {
  description = "Which pushes change which services, as JSON of schema/trigger-mapping.schema.json; or where that is kept, as s3://bucket/key or ssm:/name."
  type        = string

  validation {
    condition     = can(regex("^(\\[[\\s\\S]*\\]|s3://[a-z0-9.-]{3,63}/[A-Za-z0-9/_.-]+|ssm:/[A-Za-z0-9/_.-]+)\\s*$", var.trigger_mapping)) && length(var.trigger_mapping) <= 3500
    error_message = "trigger_mapping must be a JSON array of at most 3500 characters, or s3://bucket/key, or ssm:/name"
  }
}

variable "trigger_mapping_arn" {
  description = "ARN of the object or parameter that trigger_mapping names, which the trigger may then read where this account owns it. Module hub takes it too, to tell of its changes. Left empty, none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:s3:::[a-z0-9.-]{3,63}/[A-Za-z0-9/_.-]+|arn:aws[a-z-]*:ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9/_.-]+)?$", var.trigger_mapping_arn))
    error_message = "trigger_mapping_arn must be the ARN of an S3 object or of a parameter, or empty"
  }
}

variable "notices_topic_arn" {
  description = "The output notices_topic_arn of module hub, which hears of pushes that could not be acted on. Left empty, there is no alarm."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256})?$", var.notices_topic_arn))
    error_message = "notices_topic_arn must be the ARN of an SNS topic, or empty"
  }
}

variable "tampering_queue_arn" {
  description = "The output tampering_queue_arn of module hub, which hears of changes of this function, its role, its queue and its rule. Left empty, nothing does."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,80})?$", var.tampering_queue_arn))
    error_message = "tampering_queue_arn must be the ARN of an SQS queue, or empty"
  }
}

variable "log_retention_days" {
  description = "How long the function's log is kept."
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

variable "trigger_concurrency" {
  description = "How many repositories are at work at a time at the most, 2 to 1000; as many of the account's concurrency are kept for the trigger. Left empty, ten, and it shares what the account has."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([2-9]|[1-9][0-9]{1,2}|1000)?$", var.trigger_concurrency))
    error_message = "trigger_concurrency must be a number from 2 to 1000, or empty"
  }
}

variable "data_key_arn" {
  description = "KMS key that log and queues are encrypted with; its policy has to let CloudWatch Logs, EventBridge and this account's IAM policies use it (docs/DEPLOY.md). Left empty, keys of AWS."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]{1,64})?$", var.data_key_arn))
    error_message = "data_key_arn must be the ARN of a KMS key, or empty"
  }
}

# ---- what CloudFormation does by itself ----

variable "name" {
  description = "What the function is called, and what the names of the rest begin with."
  type        = string
  default     = "ecs-updater-trigger"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must be at most 24 lower-case letters, digits and hyphens, beginning with a letter"
  }
}

variable "alarm" {
  description = "Whether there are the alarms. Left null, where there is a notices_topic_arn; to be said where another module of the same apply makes the topic, whose ARN is not known before."
  type        = bool
  default     = null
}

variable "watch" {
  description = "Whether changes are told. Left null, where there is a tampering_queue_arn; to be said where another module of the same apply makes the queue, whose ARN is not known before."
  type        = bool
  default     = null
}

variable "keep_records" {
  description = "Whether the log outlives the rest."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of everything that can have them, beside ecs-updater-terraform, which names the module."
  type        = map(string)
  default     = {}
}
