// The right on one Route Server, given in its own resource group.

@description('Name of the Route Server (virtualHub), in this resource group.')
param hubName string

@description('Name (a GUID) of the role definition.')
param roleName string

@description('Object id of the function app\'s identity.')
param principalId string

resource hub 'Microsoft.Network/virtualHubs@2024-01-01' existing = {
  name: hubName
}

resource peers 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(hub.id, principalId, roleName)
  scope: hub
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleName)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
