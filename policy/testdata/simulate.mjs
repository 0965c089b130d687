// Judges cases with an independent evaluator, for the differential test.
// Standard input and output: one JSON value a line.
//   in:  {"id", "policies", "boundaries", "principal", "action", "resource", "account", "context"}
//   out: {"id", "result"} or {"id", "error"}
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { join } from 'node:path'

const require = createRequire(join(process.argv[2], 'anchor.js'))
const { runUnsafeSimulation } = require('@cloud-copilot/iam-simulate')

const named = (list) => list.map((policy, i) => ({ name: `p${i + 1}`, policy }))
for await (const line of createInterface({ input: process.stdin })) {
  const c = JSON.parse(line)
  const out = { id: c.id }
  try {
    out.result = runUnsafeSimulation(
      {
        request: {
          principal: c.principal,
          action: c.action,
          resource: { resource: c.resource, accountId: c.account },
          contextVariables: c.context
        },
        identityPolicies: named(c.policies),
        serviceControlPolicies: [],
        resourceControlPolicies: [],
        permissionBoundaryPolicies: c.boundaries.length > 0 ? named(c.boundaries) : undefined
      },
      {}
    )
  } catch (e) {
    out.error = String(e)
  }
  process.stdout.write(JSON.stringify(out) + '\n')
}
