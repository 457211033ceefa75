// The right to read the subnets of one virtual network, given in the network's own resource group: by them Pointsman tells the tables of the NVAs' own subnets.

@description('Name of the virtual network, in this resource group.')
param networkName string

@description('Name (a GUID) of the role definition.')
param roleName string

@description('Object id of the function app\'s identity.')
param principalId string

resource network 'Microsoft.Network/virtualNetworks@2024-01-01' existing = {
  name: networkName
}

resource reads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(network.id, principalId, roleName)
  scope: network
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleName)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
