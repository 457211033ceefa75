// What Pointsman may do to a route table: read it and write it whole; and to a virtual network: read its subnets. No delete, no join, nothing else in the network.
targetScope = 'subscription'

@description('Name of the definition, a GUID.')
param name string

@description('What people see; unique in the tenant.')
param displayName string

@description('Subscriptions in which the role is assigned.')
param subscriptionIds array

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: name
  properties: {
    roleName: displayName
    description: 'Reads and writes route tables, follows the operations that its writes start, and reads the subnets that use them.'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          'Microsoft.Network/routeTables/read'
          'Microsoft.Network/routeTables/write'
          'Microsoft.Network/virtualNetworks/subnets/read'
          'Microsoft.Network/locations/operations/read'
          'Microsoft.Network/locations/operationResults/read'
        ]
        notActions: []
      }
    ]
    assignableScopes: [for id in subscriptionIds: '/subscriptions/${id}']
  }
}
