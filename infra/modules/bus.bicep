// The bus: what agents say (route-events) and what Reconcile is asked to look at (reconcile). Both are plain queues: the merge needs no order.

@description('Name of the namespace, unique in Azure.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Standard or Premium.')
param tier string

@description('Messaging units of a Premium namespace.')
param units int

@description('Refuse shared access keys.')
param disableLocalAuth bool

@description('Reachable from the internet.')
param public bool

@description('Object id of the function app\'s identity.')
param appPrincipalId string

@description('Let the function app manage its two queues, which includes reading their length.')
param appManagesQueues bool

@description('Object ids of the identities of agents.')
param agentPrincipalIds array

@description('Object ids of the people or groups who give orders: they send to the same queue.')
param operatorPrincipalIds array

@description('What operatorPrincipalIds are.')
param operatorPrincipalType string

// Built-in roles. Source: "Azure built-in roles for Integration".
var dataReceiver = '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0'
var dataSender = '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39'
var dataOwner = '090c5cfd-751d-490a-894a-3ce6f1109419'

resource namespace 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: tier
    tier: tier
    capacity: tier == 'Premium' ? units : null
  }
  properties: {
    disableLocalAuth: disableLocalAuth
    minimumTlsVersion: '1.2'
    publicNetworkAccess: public ? 'Enabled' : 'Disabled'
    premiumMessagingPartitions: tier == 'Premium' ? 1 : null
  }
}

// An event that expires has waited for a day: nobody has listened for that long. It is dead-lettered, not dropped, because one kind of event is
// said only once: the "expired" that tells of an NVA's death. Whoever starts the function app after such a stop finds it there, and the alert
// on dead letters fires. Dead letters never expire: empty that queue when it is understood, since it counts towards the size of this one.
resource routeEvents 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = {
  parent: namespace
  name: 'route-events'
  properties: {
    lockDuration: 'PT1M'
    maxDeliveryCount: 100
    requiresDuplicateDetection: true
    duplicateDetectionHistoryTimeWindow: 'PT10M'
    defaultMessageTimeToLive: 'P1D'
    deadLetteringOnMessageExpiration: true
    requiresSession: false
    enableBatchedOperations: true
    maxSizeInMegabytes: 5120
  }
}

// A wake that expires is worth nothing: the sweep sends a newer one every few minutes. It is dropped.
resource reconcile 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = {
  parent: namespace
  name: 'reconcile'
  properties: {
    lockDuration: 'PT1M'
    maxDeliveryCount: 20
    requiresDuplicateDetection: true
    duplicateDetectionHistoryTimeWindow: 'PT10M'
    defaultMessageTimeToLive: 'P1D'
    deadLetteringOnMessageExpiration: false
    requiresSession: false
    enableBatchedOperations: true
    maxSizeInMegabytes: 5120
  }
}

resource agentSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in agentPrincipalIds: {
    name: guid(routeEvents.id, id, dataSender)
    scope: routeEvents
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataSender)
      principalId: id
      principalType: 'ServicePrincipal'
    }
  }
]

resource operatorSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in operatorPrincipalIds: {
    name: guid(routeEvents.id, id, dataSender)
    scope: routeEvents
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataSender)
      principalId: id
      principalType: operatorPrincipalType
    }
  }
]

resource appReceivesEvents 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(routeEvents.id, appPrincipalId, dataReceiver)
  scope: routeEvents
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataReceiver)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource appReceivesWakes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(reconcile.id, appPrincipalId, dataReceiver)
  scope: reconcile
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataReceiver)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource appSendsWakes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(reconcile.id, appPrincipalId, dataSender)
  scope: reconcile
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataSender)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource appManagesEvents 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (appManagesQueues) {
  name: guid(routeEvents.id, appPrincipalId, dataOwner)
  scope: routeEvents
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataOwner)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource appManagesWakes 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (appManagesQueues) {
  name: guid(reconcile.id, appPrincipalId, dataOwner)
  scope: reconcile
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataOwner)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

output id string = namespace.id

// serviceBusEndpoint is https://NAME.servicebus.windows.net:443/ with the suffix of the cloud.
output host string = split(split(namespace.properties.serviceBusEndpoint, '//')[1], ':')[0]
