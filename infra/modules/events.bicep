// The topic that outcome events go to. Who wants them subscribes to it; nothing of Pointsman does.

@description('Name of the topic, unique in the region.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Reachable from the internet.')
param public bool

@description('Object id of the function app\'s identity.')
param appPrincipalId string

// Built-in role EventGrid Data Sender. Source: "Azure built-in roles for Integration".
var dataSender = 'd5a91429-5739-47e2-a06b-3470a27159e7'

resource topic 'Microsoft.EventGrid/topics@2022-06-15' = {
  name: name
  location: location
  tags: tags
  properties: {
    inputSchema: 'CloudEventSchemaV1_0'
    disableLocalAuth: true
    publicNetworkAccess: public ? 'Enabled' : 'Disabled'
  }
}

resource appPublishes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(topic.id, appPrincipalId, dataSender)
  scope: topic
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataSender)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

output id string = topic.id
output name string = topic.name
output endpoint string = topic.properties.endpoint
