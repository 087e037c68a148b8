# A document of policies/ with its tokens filled in, and without what a deployment does not have. Other JSON files with
# such tokens too (`folder`).
#
# Not templatefile: "${aws:PrincipalOrgID}" in a document is for IAM to fill in, and templatefile would try to.

locals {
  source   = file("${path.module}/../../../../${var.folder}/${var.document}.json")
  document = jsondecode(local.source)

  statements = try(local.document.Statement, [])

  # First what is left out. An operator that would be left empty goes with its last key, and a Condition with its
  # last operator, because IAM refuses an empty one.
  conditions = [
    for statement in local.statements : {
      for operator, keys in try(statement.Condition, {}) :
      operator => { for key, value in keys : key => value if !contains(var.without, key) }
      if !alltrue([for key in keys(keys) : contains(var.without, key)])
    }
  ]
  left = [
    for index, statement in local.statements : merge(
      { for name, member in statement : name => member if name != "Condition" },
      { for name in ["Condition"] : name => local.conditions[index] if length(local.conditions[index]) > 0 },
    )
    if !contains(var.without, statement.Sid)
  ]
  kept = jsonencode(merge(local.document, { for name in ["Statement"] : name => local.left if can(local.document[name]) }))

  # Then the tokens, in one pass over the text: what stands for a token is not looked at again. A token that is all
  # of a string may stand for a list; one that is part of a string stands for text.
  values = merge(
    { for name, value in var.tokens : "\"__${name}__\"" => jsonencode(value) },
    { for name, value in var.tokens : "__${name}__" => trimprefix(trimsuffix(jsonencode(value), "\""), "\"") if can(tostring(value)) },
  )
  parts = regexall("\"__[A-Z_]+?__\"|__[A-Z_]+?__|[^_\"]+|[_\"]", local.kept)
  unknown = [
    for part in local.parts : part
    if can(regex("^\"?__[A-Z_]+__\"?$", part)) && !contains(keys(local.values), part)
  ]

  names = concat(
    [for statement in local.statements : statement.Sid],
    flatten([
      for statement in local.statements :
      [for operator in try(values(statement.Condition), []) : keys(operator)]
    ]),
  )
}
