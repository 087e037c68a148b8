# Handed to the modules, which check them.

variable "name" {
  description = "What the names of the functions, tables and roles begin with."
  type        = string
  default     = "ecs-updater"
}

variable "code_bucket" {
  description = "S3 bucket, in this region, that holds the packages. Left empty, there is the sandbox alone."
  type        = string
  default     = ""
}

variable "code_key" {
  description = "Key of the updater's package."
  type        = string
  default     = "updater.zip"
}

variable "history_code_key" {
  description = "Key of the history function's package."
  type        = string
  default     = "history.zip"
}

variable "recorder_code_key" {
  description = "Key of the recorder's package. Left empty, there is no recorder."
  type        = string
  default     = ""
}

variable "api" {
  description = "Whether there is the API door, for callers signed by IAM."
  type        = bool
  default     = false
}

variable "account_log_role" {
  description = "With the API door: EXISTING, or CREATE where API Gateway has no role for logs in this account and region."
  type        = string
  default     = "EXISTING"
}

variable "notices_email" {
  description = "Mail address that hears of alarms. Left empty, none."
  type        = string
  default     = ""
}

variable "architecture" {
  description = "What the packages were built for: x86_64 or arm64."
  type        = string
  default     = "x86_64"
}

variable "organization_id" {
  description = "The organization that this account is in. Left empty, none is asked for."
  type        = string
  default     = ""
}

variable "external_id" {
  description = "External id between hub and target role. Left empty, none is used."
  type        = string
  default     = ""
}

variable "break_glass_role_arn" {
  description = "The one role that may change the tables' policies; Terraform must then run as that role. NONE, as for a trial: any administrator may."
  type        = string
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 365
}

variable "keep_records" {
  description = "Whether tables and logs outlive `terraform destroy` (module hub). False where all is thrown away after the trial."
  type        = bool
  default     = true
}

variable "task_role_arns" {
  description = "The task roles and task execution roles of the services that may be updated, beside the sandbox's."
  type        = list(string)
  default     = []
}

variable "sandbox" {
  description = "Whether there is a sandbox: a VPC, a cluster and a service."
  type        = bool
  default     = true
}

variable "vpc_cidr" {
  description = "The sandbox's IPv4 addresses."
  type        = string
  default     = "10.20.0.0/16"
}

variable "cluster_name" {
  description = "The sandbox's cluster."
  type        = string
  default     = "ECSCluster"
}

variable "service_name" {
  description = "The sandbox's service."
  type        = string
  default     = "ecs-dummy-service"
}

variable "image" {
  description = "The image that the sandbox's service begins with."
  type        = string
  default     = "public.ecr.aws/docker/library/busybox:stable"
}

variable "desired_count" {
  description = "How many tasks the sandbox's service has. Each costs while it runs."
  type        = number
  default     = 1
}

variable "tags" {
  description = "Tags of everything that can have them, but the sandbox's service. Each module adds ecs-updater-terraform with its own name."
  type        = map(string)
  default     = {}
}
