output "json" {
  description = "The document, for a policy argument."
  value       = join("", [for part in local.parts : lookup(local.values, part, part)])

  precondition {
    condition     = length(local.unknown) == 0
    error_message = "${var.folder}/${var.document}.json has tokens that were not given: ${join(", ", local.unknown)}"
  }
  precondition {
    condition     = length(setsubtract(var.without, local.names)) == 0
    error_message = "${var.folder}/${var.document}.json has nothing to leave out by the name of ${join(", ", setsubtract(var.without, local.names))}"
  }
}
