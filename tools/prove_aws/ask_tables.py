"""Questions about DynamoDB: the policies of the two tables, and the time that items have to live."""

from __future__ import annotations

import json
import time
from typing import Any

from account import Account, denied, refusal, said
from question import ROOT, Answer, NotHere, Place, believed, other, question

BREAK_GLASS = "OnlyBreakGlassChangesThisPolicy"


def policy(account: Account, document: str, *, shuts_out: bool = False) -> str:
    """A table's policy as hub.yaml deploys it, with a writer who does not exist. `shuts_out`: nobody but the break-glass role may change it."""
    text = (ROOT / "policies" / document).read_text()
    nobody = f"arn:{account.partition}:iam::{account.id}:role/{account.name('nobody')}"
    text = text.replace('"__WRITER_ROLE_ARNS__"', json.dumps([nobody])).replace("__BREAK_GLASS_ROLE_ARN__", nobody)
    found = json.loads(text)
    # Whether tables are protected from removal is a parameter, and this one is to be removed.
    leave_out = {"NobodyDeletesTheTable"} | (set() if shuts_out else {BREAK_GLASS})
    return json.dumps({**found, "Statement": [each for each in found["Statement"] if each["Sid"] not in leave_out]})


def table(account: Account, what: str, **members: Any) -> tuple[str, str]:
    """A new table, once it is there; its name and ARN."""
    dynamodb, name = account.client("dynamodb"), account.name(what)
    dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=account.tag_list(),
        **members,
    )

    def is_there() -> str | None:
        found = dynamodb.describe_table(TableName=name)["Table"]
        return found["TableArn"] if found["TableStatus"] == "ACTIVE" else None

    return name, account.wait(is_there, 120, f"table {name} never became active")


def table_arn(account: Account, what: str) -> str:
    """The ARN of a table of this run."""
    return account.arn("dynamodb", f"table/{account.name(what)}")


@question(
    "table-policy-star",
    asked="Does DynamoDB take a table's policy whose resource is `*`, and does its Deny bind an administrator?",
    matters="It is what keeps history from being rewritten.",
    believes="it takes it, DeleteItem and PutItem are denied, and reading is not",
    places=(Place("policies/history-table.json", '"Sid": "NobodyRewritesHistory", "Effect": "Deny", "Principal": "*"'),),
    how="policies/history-table.json on a table with an item.",
    minutes=4,
)
def table_policy_star(account: Account) -> Answer:
    """Puts the policy, and tries what it denies."""
    name, arn = table(account, "star")
    dynamodb = account.client("dynamodb")
    item = {"id": {"S": "one"}}
    dynamodb.put_item(TableName=name, Item=item)
    if error := refusal(lambda: dynamodb.put_resource_policy(ResourceArn=arn, Policy=policy(account, "history-table.json"))):
        return other(f"the policy is refused: {said(error)}", refusal=said(error))
    begun = account.clock()
    # "When you attach a resource-based policy", it takes effect within half a minute or so.
    in_force = account.poll(lambda: denied(refusal(lambda: dynamodb.delete_item(TableName=name, Key=item))) or None, 120)
    seconds = round(account.clock() - begun, 1)
    errors = {
        "DeleteItem": refusal(lambda: dynamodb.delete_item(TableName=name, Key=item)),
        "PutItem": refusal(lambda: dynamodb.put_item(TableName=name, Item=item)),
        "PartiQLInsert": refusal(lambda: dynamodb.execute_statement(Statement=f"INSERT INTO \"{name}\" VALUE {{'id': 'two'}}")),
        "GetItem": refusal(lambda: dynamodb.get_item(TableName=name, Key=item)),
    }
    facts = {what: said(error) if error else "done" for what, error in errors.items()} | {"in_force_after_seconds": seconds}
    done = [what for what, error in errors.items() if what != "GetItem" and not denied(error)]
    if done or not in_force:
        return other(f"not denied: {', '.join(done)}", kinder=True, **facts)
    if errors["GetItem"]:
        return other(f"reading is denied too: {facts['GetItem']}", **facts)
    return believed(f"it is taken, and in force after {seconds} s", **facts)


@question(
    "table-policy-shuts-out",
    asked="May who makes a table give it a policy that only somebody else may change?",
    matters="If DynamoDB refuses it, a hub with a break-glass role can be deployed by that role alone, also for the first time; if it takes it, a "
    "mistyped role shuts everybody but root out.",
    believes="CreateTable takes it, and from then on it is not the maker's to change: so the hub is to be deployed as the break-glass role. Whether "
    "PutResourcePolicy wants that confirmed is not known",
    places=(
        Place("policies/history-table.json", f'"Sid": "{BREAK_GLASS}"'),
        Place("docs/DEPLOY.md", "deploy the stack of the hub as this role from now on"),
    ),
    how="CreateTable with such a policy, and PutResourcePolicy on another table, with and without ConfirmRemoveSelfResourceAccess.",
    minutes=4,
)
def table_policy_shuts_out(account: Account) -> Answer:
    """Shuts itself out of two tables, which it may still delete."""
    dynamodb = account.client("dynamodb")
    shut = policy(account, "state-table.json", shuts_out=True)
    outcomes: dict[str, str] = {}
    with_table = refusal(lambda: table(account, "shut-made", ResourcePolicy=shut))
    outcomes["CreateTable with it"] = said(with_table) if with_table else "done"
    _, arn = table(account, "shut-put")
    plain = refusal(lambda: dynamodb.put_resource_policy(ResourceArn=arn, Policy=shut))
    outcomes["PutResourcePolicy"] = said(plain) if plain else "done"
    if plain:
        confirmed = refusal(lambda: dynamodb.put_resource_policy(ResourceArn=arn, Policy=shut, ConfirmRemoveSelfResourceAccess=True))
        outcomes["PutResourcePolicy, confirmed"] = said(confirmed) if confirmed else "done"
    if not with_table:
        arn = table_arn(account, "shut-made")
    # The policy is in force some seconds later.
    shut_out = account.poll(lambda: denied(refusal(lambda: dynamodb.put_resource_policy(ResourceArn=arn, Policy=shut))) or None, 90, local=0)
    outcomes["changed afterwards"] = "denied" if shut_out else "done"
    text = "; ".join(f"{what}: {outcome}" for what, outcome in outcomes.items())
    if with_table:
        return other(text, **outcomes)
    if not shut_out:
        return other(f"{text}: who is shut out changes it still", kinder=True, **outcomes)
    return believed(text, **outcomes)


@question(
    "ttl",
    asked="Does DynamoDB remove expired items of a table that forbids everybody to delete, how late, and those that expired six years ago?",
    matters="Keys and deployments would stay for ever; and what is removed early, or shown late, must not be trusted.",
    believes="it removes them, since the denial leaves AWS's own services out; expired items are shown until then, so the code looks at the time "
    "itself; what expired more than five years ago stays",
    places=(
        Place("policies/state-table.json", '"Condition": {"Bool": {"aws:PrincipalIsAWSService": "false"}}'),
        Place("docs/OPERATIONS.md", "**TTL** on the state table"),
    ),
    how="Items that expired a minute and six years ago, in a table with policies/state-table.json. AWS removes within days, mostly within "
    "minutes: if nothing is gone by then, there is no answer.",
    minutes=50,
    cents=1,
)
def ttl(account: Account) -> Answer:
    """Waits for an item to be gone."""
    name, arn = table(account, "ttl")
    dynamodb = account.client("dynamodb")
    now = int(time.time())
    for key, at in (("minute", now - 60), ("years", now - 6 * 366 * 86400), ("later", now + 86400)):
        dynamodb.put_item(TableName=name, Item={"id": {"S": key}, "expires_at": {"N": str(at)}})
    dynamodb.put_resource_policy(ResourceArn=arn, Policy=policy(account, "state-table.json"))
    dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"})
    begun = account.clock()

    def is_there(key: str) -> bool:
        return "Item" in dynamodb.get_item(TableName=name, Key={"id": {"S": key}}, ConsistentRead=True)

    gone = account.poll(lambda: not is_there("minute") or None, 45 * 60, pause=20, local=2)
    minutes = round((account.clock() - begun) / 60, 1)
    facts = {"minutes": minutes, "minute": is_there("minute"), "six_years": is_there("years"), "tomorrow": is_there("later")}
    if not facts["tomorrow"]:
        return other("an item is gone a day before its time", **facts)
    if not gone:
        raise NotHere(f"an item that expired is still there after {minutes} minutes", **facts)
    if not facts["six_years"]:
        return other(f"removed within {minutes} minutes, that of six years ago too", **facts)
    return believed(f"removed within {minutes} minutes; that of six years ago stays", **facts)
