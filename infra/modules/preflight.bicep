// What operators may read of a subscription for pointsman preflight and plan: nothing is changed with it. The built-in Reader holds it all, and much more.
targetScope = 'subscription'

@description('Name of the definition, a GUID.')
param name string

@description('What people see; unique in the tenant.')
param displayName string

@description('Object ids of the operators.')
param principalIds array

@description('What principalIds are.')
param principalType string

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: name
  properties: {
    roleName: displayName
    description: 'Reads what pointsman preflight looks at: route tables, the subnets that use them, network interfaces, limits, permissions, locks, policy restrictions, Service Bus settings.'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          'Microsoft.Network/routeTables/read'
          'Microsoft.Network/virtualHubs/read'
          'Microsoft.Network/virtualHubs/bgpConnections/read'
          'Microsoft.Network/virtualNetworks/subnets/read'
          'Microsoft.Network/networkInterfaces/read'
          'Microsoft.Network/locations/usages/read'
          'Microsoft.Authorization/permissions/read'
          'Microsoft.Authorization/roleAssignments/read'
          'Microsoft.Authorization/roleDefinitions/read'
          'Microsoft.Authorization/locks/read'
          'Microsoft.PolicyInsights/checkPolicyRestrictions/read'
          'Microsoft.ServiceBus/namespaces/read'
          'Microsoft.ServiceBus/namespaces/queues/read'
        ]
        notActions: []
      }
    ]
    assignableScopes: [subscription().id]
  }
}

resource reads 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in principalIds: {
    name: guid(subscription().id, id, name)
    properties: {
      roleDefinitionId: role.id
      principalId: id
      principalType: principalType
    }
  }
]
