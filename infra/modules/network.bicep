// Private endpoints, one for each service that the app or an agent talks to.

@description('Unique part of the names.')
param token string

@description('Region: that of the subnet\'s virtual network.')
param location string

@description('Tags.')
param tags object

@description('Subnet of the private endpoints.')
param subnetId string

@description('The Service Bus namespace.')
param busId string

@description('The topic of outcome events.')
param topicId string

@description('The state account.')
param stateId string

@description('The host\'s account.')
param hostId string

@description('The function app.')
param appId string

@description('Private DNS zones by kind: servicebus, eventgrid, blob, sites. Empty: none.')
param zoneIds object

var endpoints = [
  {
    name: 'bus'
    target: busId
    kind: 'namespace'
    zone: zoneIds.servicebus
  }
  {
    name: 'topic'
    target: topicId
    kind: 'topic'
    zone: zoneIds.eventgrid
  }
  {
    name: 'state'
    target: stateId
    kind: 'blob'
    zone: zoneIds.blob
  }
  {
    name: 'host'
    target: hostId
    kind: 'blob'
    zone: zoneIds.blob
  }
  {
    name: 'app'
    target: appId
    kind: 'sites'
    zone: zoneIds.sites
  }
]

resource endpoint 'Microsoft.Network/privateEndpoints@2024-01-01' = [
  for e in endpoints: {
    name: 'pe-pointsman-${e.name}-${token}'
    location: location
    tags: tags
    properties: {
      subnet: { id: subnetId }
      privateLinkServiceConnections: [
        {
          name: e.name
          properties: {
            privateLinkServiceId: e.target
            groupIds: [e.kind]
          }
        }
      ]
    }
  }
]

resource zone 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-01-01' = [
  for (e, i) in endpoints: if (!empty(e.zone)) {
    parent: endpoint[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: e.name
          properties: { privateDnsZoneId: e.zone }
        }
      ]
    }
  }
]
