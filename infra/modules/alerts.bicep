// What a person should hear of. Metric alerts watch the bus; log alerts read the handler's JSON lines, by the fields of docs/observability.md.
// Each description ends with the place of its runbook.

@description('Unique part of the names.')
param token string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('The Service Bus namespace.')
param busId string

@description('The log workspace.')
param workspaceId string

@description('Name of the function app, as its telemetry says.')
param appName string

@description('Action group. Empty: none.')
param actionGroupId string

@description('Seconds from an observation on an NVA to the end of the write that it led to, above which somebody is told.')
param convergenceObjective int

var metricActions = empty(actionGroupId) ? [] : [{ actionGroupId: actionGroupId }]
var logActions = empty(actionGroupId) ? [] : [actionGroupId]
var queues = ['route-events', 'reconcile']

resource deadLetters 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'pointsman-dead-letters-${token}'
  location: 'global'
  tags: tags
  properties: {
    description: 'Messages were dead-lettered. They need not be replayed; find out why, then empty the dead-letter queue. Runbook: docs/operations.md#alert-dead-letters'
    severity: 2
    enabled: true
    scopes: [busId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT5M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.MultipleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'dead letters'
          metricNamespace: 'Microsoft.ServiceBus/namespaces'
          metricName: 'DeadletteredMessages'
          timeAggregation: 'Maximum'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'EntityName'
              operator: 'Include'
              values: queues
            }
          ]
        }
      ]
    }
    actions: metricActions
  }
}

// A queue that has not been empty at any look for a quarter of an hour: nobody takes, or more comes than can be taken.
resource backlog 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'pointsman-backlog-${token}'
  location: 'global'
  tags: tags
  properties: {
    description: 'A queue does not become empty: the function app is stopped, has lost its right to receive, or cannot keep up. Runbook: docs/operations.md#alert-backlog'
    severity: 1
    enabled: true
    scopes: [busId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    autoMitigate: true
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.MultipleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'backlog'
          metricNamespace: 'Microsoft.ServiceBus/namespaces'
          metricName: 'ActiveMessages'
          timeAggregation: 'Minimum'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'EntityName'
              operator: 'Include'
              values: queues
            }
          ]
        }
      ]
    }
    actions: metricActions
  }
}

// The host passes the handler's output on as traces. A line is a JSON object, perhaps with a prefix of the host's.
var lines = 'AppTraces | where AppRoleName =~ "${appName}" | extend line = parse_json(extract(@"(\\{.*\\})", 1, Message)) | extend msg = tostring(line.msg)'

// The line that every invocation ends with.
var calls = '${lines} | where msg == "invocation"'

var logAlerts = [
  {
    name: 'parked-events'
    severity: 2
    description: 'Messages were parked: they can never be used. The container poison has them with the reason.'
    query: '${calls} | where toint(line.parked) > 0 | project TimeGenerated, about = strcat(line.function, " ", line.nvas), reason = strcat(line.parked, " parked, ", line.refused, " of them not signed as wanted: ", line.messageIds)'
  }
  {
    name: 'nva-silent'
    severity: 2
    description: 'An NVA is not heard any more: it is dead, or its agent or its way to the bus is.'
    query: '${calls} | where array_length(line.silent) > 0 | mv-expand nva = line.silent | project TimeGenerated, about = tostring(nva), reason = tostring(line.messageIds)'
  }
  {
    name: 'nva-control-lost'
    severity: 2
    description: 'An NVA\'s agent has lost its routing daemon: the NVA goes on forwarding by the routes of before, which nobody can withdraw.'
    query: '${calls} | where array_length(line.controlLost) > 0 | mv-expand nva = line.controlLost | project TimeGenerated, about = tostring(nva), reason = tostring(line.messageIds)'
  }
  {
    name: 'nva-cloned'
    severity: 2
    description: 'Two agents speak in the name of one NVA: a copy of the machine runs, and what one of them says is not used.'
    query: '${calls} | where array_length(line.cloned) > 0 | mv-expand nva = line.cloned | project TimeGenerated, about = tostring(nva), reason = tostring(line.messageIds)'
  }
  {
    name: 'frozen'
    severity: 1
    description: 'More than half of the NVAs of a domain were lost at once: a target keeps what it has.'
    query: '${calls} | where tobool(line.frozen) | project TimeGenerated, about = strcat(line.domain, "/", line.target), reason = tostring(line.cause)'
  }
  {
    name: 'failed-writes'
    severity: 1
    description: 'A target could not be brought to what it should be: denied, refused or failed.'
    query: '${calls} | where tostring(line.outcome) in ("denied", "refused", "failed") or (tostring(line.function) == "Reconcile" and isnotempty(line.error)) | project TimeGenerated, about = strcat(line.domain, "/", line.target), reason = strcat(line.outcome, " ", line.code, " ", line.message, line.error)'
  }
  {
    name: 'held'
    severity: 3
    description: 'A plan waits for an operator to approve it.'
    query: '${calls} | where tostring(line.outcome) == "held" | project TimeGenerated, about = strcat(line.domain, "/", line.target), reason = tostring(line.message)'
  }
  {
    name: 'convergence'
    severity: 2
    description: 'A change took longer than the objective, from the NVA to the end of the write.'
    query: '${calls} | where todouble(line.convergenceSeconds) > ${convergenceObjective} | project TimeGenerated, about = strcat(line.domain, "/", line.target), reason = strcat(line.convergenceSeconds, " s, of which wait ", line.waitSeconds, " and write ", line.writeSeconds, ", events ", line.events)'
  }
  {
    name: 'target-warning'
    severity: 2
    description: 'A target needs a look: more than half of the NVAs were lost at once, prefixes have no NVA that is up, or a prefix is held by somebody else\'s route.'
    query: '${lines} | where msg == "look at this target" | project TimeGenerated, about = strcat(line.domain, "/", line.target), reason = tostring(line.warning)'
  }
  {
    name: 'group'
    severity: 1
    description: 'Tables that must agree have not agreed for too long: flows may take different NVAs in their two directions.'
    query: '${lines} | where msg == "the tables of the group do not agree" | project TimeGenerated, about = strcat(line.domain, "/", line.group), reason = strcat(line.because, " ", line.reason)'
  }
  {
    name: 'writes-short'
    severity: 2
    description: 'A subscription has few writes left: dead next hops go first, the rest waits.'
    query: '${lines} | where msg == "writes run short: dead next hops first" | project TimeGenerated, about = tostring(line.subscription), reason = strcat(line.left, " of ", line.capacity)'
  }
  {
    name: 'drift'
    severity: 2
    description: 'Another hand has changed managed routes, and they were written again. Find out who fights for the table; or say policy.drift: report.'
    query: '${lines} | where msg == "managed routes were changed by another hand and are written again" | project TimeGenerated, about = strcat(line.domain, "/", line.target), reason = tostring(line.first)'
  }
  {
    name: 'outcome-events'
    severity: 3
    description: 'Outcome events cannot be told: the topic is away, or refuses them. Routes do not depend on it.'
    query: '${lines} | where msg in ("outcome events are not sent yet", "an outcome event was refused and is dropped") | project TimeGenerated, about = tostring(line.about), reason = tostring(line.error)'
  }
  {
    name: 'domain-file'
    severity: 2
    description: 'The newest domain file is not valid; the last valid one is in force.'
    query: '${lines} | where msg == "the newest domain file is not valid, the last valid one is in force" or msg == "a domain cannot be swept" | project TimeGenerated, about = tostring(line.domain), reason = strcat(line.problem, line.error)'
  }
  {
    name: 'handler'
    severity: 1
    description: 'The handler does not start, has panicked, or its app settings are wrong.'
    query: '${lines} | where msg in ("the app settings are wrong", "the handler stopped", "the function panicked") | project TimeGenerated, about = msg, reason = strcat(line.error, line.panic)'
  }
  {
    name: 'function-failures'
    severity: 1
    description: 'Invocations failed: their messages come again.'
    query: 'AppRequests | where AppRoleName =~ "${appName}" and Success == false | project TimeGenerated, about = OperationName, reason = ResultCode'
  }
]

resource logAlert 'Microsoft.Insights/scheduledQueryRules@2021-08-01' = [
  for a in logAlerts: {
    name: 'pointsman-${a.name}-${token}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: 'Pointsman: ${a.name}'
      description: '${a.description} Runbook: docs/operations.md#alert-${a.name}'
      severity: a.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: 'PT5M'
      windowSize: 'PT10M'
      autoMitigate: true
      skipQueryValidation: true // the tables do not exist before the first telemetry
      criteria: {
        allOf: [
          {
            query: a.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            dimensions: [
              {
                name: 'about'
                operator: 'Include'
                values: ['*']
              }
            ]
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: { actionGroups: logActions }
    }
  }
]
