// The right on one route table, given in the table's own resource group.

@description('Name of the route table, in this resource group.')
param tableName string

@description('Name (a GUID) of the role definition.')
param roleName string

@description('Object id of the function app\'s identity.')
param principalId string

resource table 'Microsoft.Network/routeTables@2024-01-01' existing = {
  name: tableName
}

resource writes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(table.id, principalId, roleName)
  scope: table
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleName)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
