// Pointsman in Azure: a resource group with the function app, the bus, the state and the alerts, and rights on the route tables named.
//
//   azd up                                     or
//   az deployment sub create --location REGION --template-file infra/main.bicep --parameters infra/main.bicepparam
//
// The scope is the subscription because the route tables live in other resource groups, and because the role for them is defined there.
targetScope = 'subscription'

@description('Short name of this installation. It is part of every resource name. azd gives the name of its environment.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('Azure region of everything that is created here. It must offer the Flex Consumption plan: az functionapp list-flexconsumption-locations.')
@metadata({ azd: { type: 'location' } })
param location string

@description('Resource group to create or use. Empty: rg-pointsman-NAME.')
param resourceGroupName string = ''

@description('Tags on everything, besides the one that azd needs.')
param extraTags object = {}

@description('Resource ids of the route tables that Pointsman may read and write: the targets of the domain files. They may be in other resource groups and subscriptions of the tenant.')
param routeTableIds array = []

@description('Resource ids of the virtual networks whose subnets use those tables: Pointsman reads the subnets, and never writes the table of a subnet in which an NVA has its next hop. Not needed where the domain files declare targets[].subnets.')
param virtualNetworkIds array = []

@description('Resource ids of the Route Servers (virtualHubs) whose BGP peers Pointsman may keep: routeServers in the domain files. They may be in other resource groups and subscriptions of the tenant.')
param routeServerIds array = []

@description('Object ids of the NVAs\' managed identities. Each may send to the queue route-events and nothing else.')
param agentPrincipalIds array = []

@description('Object ids of the people or groups who upload domain files (pointsman apply), read parked events and give orders (pointsman drain, pause, approve).')
param operatorPrincipalIds array = []

@description('What operatorPrincipalIds are.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorPrincipalType string = 'User'

@description('Let the operators read what pointsman preflight looks at, with a custom role on the subscriptions of the route tables and on this one. Not needed where they are Reader there.')
param operatorsPreflight bool = true

@description('Tier of the Service Bus namespace. Premium has reserved capacity and private endpoints; it is always used where private endpoints are asked for.')
@allowed(['Standard', 'Premium'])
param busTier string = 'Standard'

@description('Messaging units of a Premium namespace.')
@allowed([1, 2, 4, 8, 16])
param busUnits int = 1

@description('Refuse shared access keys on the bus. False only where an NVA cannot use Microsoft Entra ID.')
param busDisableLocalAuth bool = true

@description('Give the function app the right to manage its two queues, which includes reading their length. Functions uses it to add instances; without it the always ready ones do the work and scaling out is less exact.')
param scaleByQueueLength bool = false

@description('Replication of the state account.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GZRS'])
param stateReplication string = 'Standard_ZRS'

@description('Days for which overwritten and deleted state can be brought back.')
@minValue(1)
@maxValue(365)
param stateRetentionDays int = 14

@description('Days for which parked events are kept.')
@minValue(1)
@maxValue(365)
param poisonRetentionDays int = 90

@description('Keep accepted events for replay.')
param journal bool = true

@description('Days for which accepted events are kept: 0 for ever, otherwise 2 or more. Sweep deletes them.')
@minValue(0)
@maxValue(3650)
param journalRetentionDays int = 30

@description('Days for which the history of the targets is kept: 0 for ever, otherwise 2 or more. Sweep deletes it.')
@minValue(0)
@maxValue(3650)
param historyRetentionDays int = 400

@description('Where traces and metrics are sent by OTLP over HTTP, as https://COLLECTOR:4318. Empty: nowhere.')
param otlpEndpoint string = ''

@description('Seconds from an observation on an NVA to the end of the write that it led to, above which an alert tells.')
@minValue(1)
param convergenceObjective int = 30

@description('Instances of Ingest and of Reconcile that are always running, each. 0 saves their price and costs a cold start at every burst.')
@minValue(0)
@maxValue(20)
param alwaysReady int = 1

@description('Upper bound of instances of each function.')
@minValue(40)
@maxValue(1000)
param maximumInstances int = 40

@description('Memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemory int = 2048

@description('Version of the runtime "custom" of the Flex Consumption plan.')
param handlerRuntimeVersion string = '1.0'

@description('When every target is looked at although nothing has happened: six-field NCRONTAB.')
param sweepSchedule string = '0 */5 * * * *'

@description('Level of the handler\'s log.')
@allowed(['debug', 'info', 'warn', 'error'])
param logLevel string = 'info'

@description('Tell the function Drift of writes to the route tables, so that a hand edit is noticed within seconds instead of at the next sweep. The function must exist: deploy with false, deploy the code, then deploy with true.')
param driftEvents bool = false

@description('Days that logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Daily cap of the log workspace in GB. -1: none.')
param logDailyCapGB int = -1

@description('Resource id of the action group that alerts go to. Empty: alerts are shown in the portal only.')
param actionGroupId string = ''

@description('Subnet for private endpoints of the bus, the topic, both storage accounts and the function app. Empty: public endpoints.')
param privateEndpointSubnetId string = ''

@description('Subnet, delegated to Microsoft.App/environments, that the function app\'s own traffic leaves by. Needed with private endpoints.')
param functionSubnetId string = ''

@description('Resource ids of existing private DNS zones that the private endpoints register in; an empty one: you keep DNS yourself.')
param privateDnsZoneIds object = {
  servicebus: ''
  eventgrid: ''
  blob: ''
  sites: ''
}

@description('Reach the function app (Status, deployment) from the internet too when it has a private endpoint.')
param appPublic bool = true

var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = union(extraTags, { 'azd-env-name': environmentName })
var routeTableRole = guid(token, 'pointsman-route-tables')
var private = !empty(privateEndpointSubnetId)
var routeServerRole = guid(token, 'pointsman-route-servers')
var watchedGroups = union(map(concat(routeTableIds, routeServerIds), id => toLower('/subscriptions/${split(id, '/')[2]}/resourceGroups/${split(id, '/')[4]}')), [])

// Where there is something for pointsman preflight to look at: the tables' subscriptions, and this one, with the bus.
var lookedAt = union(map(routeTableIds, id => toLower(split(id, '/')[2])), [toLower(subscription().subscriptionId)])

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: empty(resourceGroupName) ? 'rg-pointsman-${environmentName}' : resourceGroupName
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'pointsman-identity'
  scope: group
  params: {
    name: 'id-pointsman-${token}'
    location: location
    tags: tags
  }
}

module monitor 'modules/monitor.bicep' = {
  name: 'pointsman-monitor'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    retentionDays: logRetentionDays
    dailyCapGB: logDailyCapGB
    writerPrincipalId: identity.outputs.principalId
  }
}

module bus 'modules/bus.bicep' = {
  name: 'pointsman-bus'
  scope: group
  params: {
    name: 'sb-pointsman-${token}'
    location: location
    tags: tags
    tier: private ? 'Premium' : busTier
    units: busUnits
    disableLocalAuth: busDisableLocalAuth
    public: !private
    appPrincipalId: identity.outputs.principalId
    appManagesQueues: scaleByQueueLength
    agentPrincipalIds: agentPrincipalIds
    operatorPrincipalIds: operatorPrincipalIds
    operatorPrincipalType: operatorPrincipalType
  }
}

module state 'modules/state.bicep' = {
  name: 'pointsman-state'
  scope: group
  params: {
    name: 'stpm${token}'
    location: location
    tags: tags
    replication: stateReplication
    retentionDays: stateRetentionDays
    poisonRetentionDays: poisonRetentionDays
    public: !private
    appPrincipalId: identity.outputs.principalId
    operatorPrincipalIds: operatorPrincipalIds
    operatorPrincipalType: operatorPrincipalType
  }
}

module events 'modules/events.bicep' = {
  name: 'pointsman-events'
  scope: group
  params: {
    name: 'evgt-pointsman-${token}'
    location: location
    tags: tags
    public: !private
    appPrincipalId: identity.outputs.principalId
  }
}

module app 'modules/app.bicep' = {
  name: 'pointsman-app'
  scope: group
  params: {
    name: 'func-pointsman-${token}'
    hostAccountName: 'stpmhost${token}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    identityPrincipalId: identity.outputs.principalId
    insightsName: monitor.outputs.insightsName
    busHost: bus.outputs.host
    stateUri: state.outputs.blobUri
    stateContainer: state.outputs.stateContainer
    poisonContainer: state.outputs.poisonContainer
    sweepSchedule: sweepSchedule
    journal: journal
    journalRetentionDays: journalRetentionDays
    historyRetentionDays: historyRetentionDays
    otlpEndpoint: otlpEndpoint
    outcomeEndpoint: events.outputs.endpoint
    logLevel: logLevel
    alwaysReady: alwaysReady
    maximumInstances: maximumInstances
    instanceMemory: instanceMemory
    runtimeVersion: handlerRuntimeVersion
    subnetId: functionSubnetId
    public: !private || appPublic
    hostPublic: !private
  }
}

module network 'modules/network.bicep' = if (private) {
  name: 'pointsman-network'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    subnetId: privateEndpointSubnetId
    busId: bus.outputs.id
    topicId: events.outputs.id
    stateId: state.outputs.id
    hostId: app.outputs.hostAccountId
    appId: app.outputs.id
    zoneIds: privateDnsZoneIds
  }
}

// A role definition may be assigned only below its assignable scopes: the subscriptions of the tables.
module role 'modules/role.bicep' = if (!empty(routeTableIds)) {
  name: 'pointsman-role'
  params: {
    name: routeTableRole
    displayName: 'Pointsman route tables ${token}'
    subscriptionIds: union(map(routeTableIds, id => split(id, '/')[2]), map(virtualNetworkIds, id => split(id, '/')[2]))
  }
}

// Rights to read only, for those who give orders: see docs/preflight.md.
module preflight 'modules/preflight.bicep' = [
  for id in lookedAt: if (operatorsPreflight && !empty(operatorPrincipalIds)) {
    name: 'pointsman-preflight-${uniqueString(token, id)}'
    scope: subscription(id)
    params: {
      name: guid(token, id, 'pointsman-preflight')
      displayName: 'Pointsman preflight ${token} ${id}'
      principalIds: operatorPrincipalIds
      principalType: operatorPrincipalType
    }
  }
]

module tables 'modules/table.bicep' = [
  for id in routeTableIds: {
    name: 'pointsman-table-${uniqueString(token, toLower(id))}'
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
    params: {
      tableName: split(id, '/')[8]
      roleName: routeTableRole
      principalId: identity.outputs.principalId
    }
    dependsOn: [role]
  }
]

module serverRole 'modules/serverrole.bicep' = if (!empty(routeServerIds)) {
  name: 'pointsman-server-role'
  params: {
    name: routeServerRole
    displayName: 'Pointsman route servers ${token}'
    subscriptionIds: union(map(routeServerIds, id => split(id, '/')[2]), [])
  }
}

module servers 'modules/server.bicep' = [
  for id in routeServerIds: {
    name: 'pointsman-server-${uniqueString(token, toLower(id))}'
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
    params: {
      hubName: split(id, '/')[8]
      roleName: routeServerRole
      principalId: identity.outputs.principalId
    }
    dependsOn: [serverRole]
  }
]

// One subscription for each resource group that has tables or Route Servers; the same name in each, which belongs to this installation.
module drift 'modules/drift.bicep' = [
  for id in watchedGroups: if (driftEvents) {
    name: 'pointsman-drift-${uniqueString(token, id)}'
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
    params: {
      name: 'pointsman-${token}'
      functionId: '${app.outputs.id}/functions/Drift'
    }
  }
]

module networks 'modules/vnet.bicep' = [
  for id in virtualNetworkIds: if (!empty(routeTableIds)) {
    name: 'pointsman-vnet-${uniqueString(token, toLower(id))}'
    scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
    params: {
      networkName: split(id, '/')[8]
      roleName: routeTableRole
      principalId: identity.outputs.principalId
    }
    dependsOn: [role]
  }
]

module alerts 'modules/alerts.bicep' = {
  name: 'pointsman-alerts'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    busId: bus.outputs.id
    workspaceId: monitor.outputs.workspaceId
    appName: app.outputs.name
    actionGroupId: actionGroupId
    convergenceObjective: convergenceObjective
  }
}

module workbook 'modules/workbook.bicep' = {
  name: 'pointsman-workbook'
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    workspaceId: monitor.outputs.workspaceId
  }
}

@description('Resource group of the installation.')
output AZURE_RESOURCE_GROUP string = group.name

@description('The function app: what to deploy to.')
output POINTSMAN_APP string = app.outputs.name

@description('bus.namespace of every agent.')
output POINTSMAN_BUS string = bus.outputs.host

@description('The blob service that holds domain files and state.')
output POINTSMAN_STATE_URI string = state.outputs.blobUri

@description('The topic of outcome events: what to subscribe to.')
output POINTSMAN_TOPIC string = events.outputs.name

@description('Address of Status; it needs a function key.')
output POINTSMAN_STATUS_URI string = 'https://${app.outputs.hostName}/api/status'
