// The state: domain files, the document of every NVA and target, the history, and parked events. An account of its own, so that nothing else
// shares its rights or its limits.

@description('Name of the account, unique in Azure.')
param name string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Replication. Compare-and-swap needs one strongly consistent primary, which all of them have.')
param replication string

@description('Days for which old versions and deleted blobs are kept.')
param retentionDays int

@description('Days for which parked events are kept.')
param poisonRetentionDays int

@description('Reachable from the internet.')
param public bool

@description('Object id of the function app\'s identity.')
param appPrincipalId string

@description('Object ids of operators.')
param operatorPrincipalIds array

@description('What operators are: User, Group or ServicePrincipal.')
param operatorPrincipalType string

var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var stateContainerName = 'pointsman'
var poisonContainerName = 'poison'

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: replication }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: public ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: public ? 'Allow' : 'Deny'
      bypass: 'None'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: true
    deleteRetentionPolicy: {
      enabled: true
      days: retentionDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: retentionDays
    }
  }
}

resource stateContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: stateContainerName
  properties: { publicAccess: 'None' }
}

resource poisonContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: poisonContainerName
  properties: { publicAccess: 'None' }
}

// Every change of a document leaves a version behind; without this rule they would be kept for ever.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'old-versions'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: {
              blobTypes: ['blockBlob']
              prefixMatch: ['${stateContainerName}/']
            }
            actions: {
              version: {
                delete: { daysAfterCreationGreaterThan: retentionDays }
              }
            }
          }
        }
        {
          name: 'parked-events'
          type: 'Lifecycle'
          enabled: true
          definition: {
            filters: {
              blobTypes: ['blockBlob']
              prefixMatch: ['${poisonContainerName}/']
            }
            actions: {
              baseBlob: {
                delete: { daysAfterModificationGreaterThan: poisonRetentionDays }
              }
            }
          }
        }
      ]
    }
  }
  dependsOn: [blobs]
}

resource appWrites 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, appPrincipalId, blobDataContributor)
  scope: account
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource operatorWrites 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in operatorPrincipalIds: {
    name: guid(account.id, id, blobDataContributor)
    scope: account
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
      principalId: id
      principalType: operatorPrincipalType
    }
  }
]

output id string = account.id
output blobUri string = account.properties.primaryEndpoints.blob
output stateContainer string = stateContainer.name
output poisonContainer string = poisonContainer.name
