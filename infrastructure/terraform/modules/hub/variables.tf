# As the parameters of infrastructure/cloudformation/hub.yaml, by the same names (code_key for CodeKey), with the same
# defaults and patterns; tests/e2e/test_terraform.py compares them. What this module has beside them stands at the end.

variable "code_bucket" {
  description = "S3 bucket, in this region, that holds the packages."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.code_bucket))
    error_message = "code_bucket must be the name of an S3 bucket"
  }
}

variable "code_key" {
  description = "Key of the updater's package (a zip whose root holds the executable `bootstrap`)."
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

variable "history_code_key" {
  description = "Key of the history function's package, made by the same build."
  type        = string

  validation {
    condition     = length(var.history_code_key) >= 1 && length(var.history_code_key) <= 128
    error_message = "history_code_key must have 1 to 128 characters"
  }
}

variable "history_code_version" {
  description = "Version of that object, where the bucket keeps versions. Left empty, the latest."
  type        = string
  default     = ""

  validation {
    condition     = length(var.history_code_version) <= 64
    error_message = "history_code_version must have at most 64 characters"
  }
}

variable "architecture" {
  description = "What the packages were built for."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64"
  }
}

variable "code_signing_config_arn" {
  description = "Lambda code signing configuration that says whose signed packages the functions may run; the packages at the keys above must be the signed ones. Left empty, any package."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:code-signing-config:csc-[a-z0-9]{17})?$", var.code_signing_config_arn))
    error_message = "code_signing_config_arn must be the ARN of a Lambda code signing configuration, or empty"
  }
}

variable "organization_id" {
  description = "The organization whose accounts may be changed. Left empty, for an account that is in none, no organization is asked for."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(o-[a-z0-9]{10,32})?$", var.organization_id))
    error_message = "organization_id must be an organization id such as o-a1b2c3d4e5, or empty"
  }
}

variable "target_role_name" {
  description = "Path and name of the role that the updater assumes in every target account (module target-role creates it)."
  type        = string
  default     = "ecs-updater/ecs-updater-target"

  validation {
    condition     = can(regex("^([!-.0-~]+/)*[A-Za-z0-9_+=,.@-]{1,64}$", var.target_role_name)) && length(var.target_role_name) <= 512
    error_message = "target_role_name must be a role name, with its path in front, such as ecs-updater/ecs-updater-target"
  }
}

variable "external_id" {
  description = "External id that the target roles ask for. Left empty, none is sent."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9_+=,.@:/-]{2,})?$", var.external_id)) && length(var.external_id) <= 1224
    error_message = "external_id must be 2 to 1224 of the characters an external id may have, or empty"
  }
}

variable "allowed_accounts" {
  description = "The accounts that may be changed, organizational units (ou-…) and roots (r-…) among them; or, alone in the list, where they are kept, as s3://bucket/key or ssm:/name (docs/DEPLOY.md). Left empty, every account whose target role trusts this hub."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for account in var.allowed_accounts : can(regex("^([0-9]{12}|ou-[a-z0-9]{4,32}-[a-z0-9]{8,32}|r-[a-z0-9]{4,32}|s3://[a-z0-9.-]{3,63}/[A-Za-z0-9/_.-]+|ssm:/[A-Za-z0-9/_.-]+)$", account))])
    error_message = "allowed_accounts must be 12-digit account ids, units or roots, or one s3://bucket/key or ssm:/name"
  }
}

variable "allowed_accounts_arn" {
  description = "ARN of the object or parameter that allowed_accounts names, which updater and recorder may then read where this account owns it. The tampering alarm tells of its changes (docs/DEPLOY.md). Left empty, none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:s3:::[a-z0-9.-]{3,63}/[A-Za-z0-9/_.-]+|arn:aws[a-z-]*:ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9/_.-]+)?$", var.allowed_accounts_arn))
    error_message = "allowed_accounts_arn must be the ARN of an S3 object or of a parameter, or empty"
  }
}

variable "resolve_units" {
  description = "YES: allowed_accounts names organizational units or roots, and updater and recorder may ask AWS Organizations which accounts are in them. This account has to be the organization's management account or a delegated administrator (docs/DEPLOY.md)."
  type        = string
  default     = "NO"

  validation {
    condition     = contains(["YES", "NO"], var.resolve_units)
    error_message = "resolve_units must be YES or NO"
  }
}

variable "trigger_mapping_arn" {
  description = "ARN of the object or parameter that the trigger's mapping is kept in, as module trigger has it: the tampering alarm tells of its changes (docs/DEPLOY.md). Left empty, none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:s3:::[a-z0-9.-]{3,63}/[A-Za-z0-9/_.-]+|arn:aws[a-z-]*:ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9/_.-]+)?$", var.trigger_mapping_arn))
    error_message = "trigger_mapping_arn must be the ARN of an S3 object or of a parameter, or empty"
  }
}

variable "break_glass_role_arn" {
  description = "The one role that may change or remove the tables' policies; Terraform must then run as that role. NONE: any administrator of this account may."
  type        = string

  validation {
    condition     = can(regex("^(NONE|arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]{1,576})$", var.break_glass_role_arn))
    error_message = "break_glass_role_arn must be the ARN of an IAM role, or NONE"
  }
}

variable "log_retention_days" {
  description = "How long the functions' logs are kept. The history table is kept for ever."
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

variable "notices_email" {
  description = "Mail address that hears of alarms, once it has confirmed. Left empty, none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([^@ ]+@[^@ ]+)?$", var.notices_email))
    error_message = "notices_email must be a mail address, or empty"
  }
}

variable "notices_url" {
  description = "HTTPS address that alarms are sent to, such as that of a paging service; it has to confirm. Left empty, none."
  type        = string
  default     = ""
  sensitive   = true

  validation {
    condition     = can(regex("^(https://\\S+)?$", var.notices_url))
    error_message = "notices_url must be an address that starts with https://, or empty"
  }
}

variable "slack_workspace_id" {
  description = "Slack workspace that hears of alarms, by its id; Amazon Q Developer in chat applications has to be connected to it first. Left empty, none."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([0-9A-Z]{1,255})?$", var.slack_workspace_id))
    error_message = "slack_workspace_id must be a workspace id such as T012ABCDEFG, or empty"
  }
}

variable "slack_channel_id" {
  description = "The channel of that workspace, by its id."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([A-Za-z0-9]{1,15})?$", var.slack_channel_id))
    error_message = "slack_channel_id must be a channel id such as C012ABCDEFG, or empty"
  }
  validation {
    condition     = var.slack_workspace_id == "" || var.slack_channel_id != ""
    error_message = "slack_workspace_id needs slack_channel_id"
  }
}

variable "caller_events_per_minute" {
  description = "How many events one caller of the API door may send in a minute; what is beyond gets 429. 0 takes as many as come."
  type        = number
  default     = 120

  validation {
    condition     = var.caller_events_per_minute >= 0 && var.caller_events_per_minute <= 10000 && floor(var.caller_events_per_minute) == var.caller_events_per_minute
    error_message = "caller_events_per_minute must be a whole number from 0 to 10000"
  }
}

variable "metrics_namespace" {
  description = "CloudWatch namespace of the functions' metrics; a second hub in the same account and region needs another one."
  type        = string
  default     = "EcsUpdater"

  validation {
    condition     = can(regex("^[A-Za-z0-9._/#-]{1,255}$", var.metrics_namespace))
    error_message = "metrics_namespace must be 1 to 255 letters, digits and . _ / # -"
  }
}

variable "table_key_arn" {
  description = "KMS key that the tables are encrypted with; its policy has to let this account's IAM policies decide. Left empty, DynamoDB's own key."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]{1,64})?$", var.table_key_arn))
    error_message = "table_key_arn must be the ARN of a KMS key, or empty"
  }
}

variable "data_key_arn" {
  description = "KMS key that logs, queues and the waves' bucket are encrypted with; its policy has to let CloudWatch Logs, EventBridge and this account's IAM policies use it (docs/DEPLOY.md). Left empty, keys of AWS."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]{1,64})?$", var.data_key_arn))
    error_message = "data_key_arn must be the ARN of a KMS key, or empty"
  }
}

variable "recorder_code_key" {
  description = "Key of the recorder's package, made by the same build. Left empty, there is no recorder: the history then does not know how deployments ended."
  type        = string
  default     = ""

  validation {
    condition     = length(var.recorder_code_key) <= 128
    error_message = "recorder_code_key must have at most 128 characters"
  }
}

variable "recorder_code_version" {
  description = "Version of that object, where the bucket keeps versions. Left empty, the latest."
  type        = string
  default     = ""

  validation {
    condition     = length(var.recorder_code_version) <= 64
    error_message = "recorder_code_version must have at most 64 characters"
  }
}

variable "reader_role_name" {
  description = "Path and name of the role that the recorder reads with in every target account (module target-role creates it)."
  type        = string
  default     = "ecs-updater/ecs-updater-reader"

  validation {
    condition     = can(regex("^([!-.0-~]+/)*[A-Za-z0-9_+=,.@-]{1,64}$", var.reader_role_name)) && length(var.reader_role_name) <= 512
    error_message = "reader_role_name must be a role name, with its path in front, such as ecs-updater/ecs-updater-reader"
  }
}

variable "registry_repository_arns" {
  description = "ARNs of the ECR repositories whose images the updater may look up, of this account and of others whose repository policies let it; `*` may stand for a part. Left empty, none."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for arn in var.registry_repository_arns : can(regex("^arn:aws[a-z-]*:ecr:[a-z0-9*-]+:([0-9]{12}|\\*):repository/[a-z0-9*._/-]+$", arn))
    ])
    error_message = "registry_repository_arns must be ARNs of ECR repositories"
  }
}

variable "registry_credentials" {
  description = "Secrets with the credentials for other registries, as JSON of hosts to ARNs. Left empty, registries are asked without."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(\\{.*\\})?$", var.registry_credentials))
    error_message = "registry_credentials must be a JSON object, or empty"
  }
}

variable "registry_secret_arns" {
  description = "The ARNs of those secrets. Their key has to be the account's own for Secrets Manager."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for arn in var.registry_secret_arns : can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+$", arn))
    ])
    error_message = "registry_secret_arns must be ARNs of secrets"
  }
}

variable "updater_concurrency" {
  description = "How many invocations of the updater are at work at a time at the most; as many of the account's concurrency are kept for it. Left empty, it shares what the account has."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([1-9][0-9]{0,4})?$", var.updater_concurrency))
    error_message = "updater_concurrency must be a number from 1 to 99999, or empty"
  }
}

variable "history_concurrency" {
  description = "How many invocations of the history are at work at a time at the most; as many of the account's concurrency are kept for it. Left empty, it shares what the account has."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([1-9][0-9]{0,4})?$", var.history_concurrency))
    error_message = "history_concurrency must be a number from 1 to 99999, or empty"
  }
}

variable "recorder_concurrency" {
  description = "How many invocations of the recorder are at work at a time at the most; as many of the account's concurrency are kept for it. Left empty, it shares what the account has."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([1-9][0-9]{0,4})?$", var.recorder_concurrency))
    error_message = "recorder_concurrency must be a number from 1 to 99999, or empty"
  }
}

# ---- what CloudFormation does by itself ----

variable "name" {
  description = "What the names of the functions, tables and roles begin with, and what the event bus is called. With the default, the command line finds the functions by itself."
  type        = string
  default     = "ecs-updater"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,23}$", var.name))
    error_message = "name must be at most 24 lower-case letters, digits and hyphens, beginning with a letter"
  }
}

variable "keep_records" {
  description = "Whether tables and logs outlive the rest: `terraform destroy` fails at the tables (deletion protection), and leaves the logs. False only where all is thrown away after a trial."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of everything that can have them, beside ecs-updater-terraform, which names the module."
  type        = map(string)
  default     = {}
}
