// What Pointsman may do to a Route Server: read it, keep its BGP peers, and ask what it has learned from them. Not the Route Server itself.
targetScope = 'subscription'

@description('Name of the definition, a GUID.')
param name string

@description('What people see; unique in the tenant.')
param displayName string

@description('Subscriptions in which the role is assigned.')
param subscriptionIds array

// The name of the action that lists learned routes is not documented, hence the wildcard below the peers.
resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: name
  properties: {
    roleName: displayName
    description: 'Reads Route Servers, keeps their BGP peers, asks what was learned from them, and follows the operations that this starts.'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          'Microsoft.Network/virtualHubs/read'
          'Microsoft.Network/virtualHubs/bgpConnections/read'
          'Microsoft.Network/virtualHubs/bgpConnections/write'
          'Microsoft.Network/virtualHubs/bgpConnections/delete'
          'Microsoft.Network/virtualHubs/bgpConnections/*/action'
          'Microsoft.Network/locations/operations/read'
          'Microsoft.Network/locations/operationResults/read'
        ]
        notActions: []
      }
    ]
    assignableScopes: [for id in subscriptionIds: '/subscriptions/${id}']
  }
}
