// The function app: Flex Consumption plan, custom handler, and the account in which the Functions host keeps its leases, keys and the package.

@description('Name of the function app, unique in Azure.')
param name string

@description('Name of the host\'s storage account, unique in Azure.')
@maxLength(24)
param hostAccountName string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('Resource id of the identity that the app works with.')
param identityId string

@description('Client id of that identity.')
param identityClientId string

@description('Object id of that identity.')
param identityPrincipalId string

@description('Name of the Application Insights component, in this resource group.')
param insightsName string

@description('Host name of the Service Bus namespace.')
param busHost string

@description('Address of the blob service that holds the state.')
param stateUri string

@description('Container of the documents.')
param stateContainer string

@description('Container of parked events.')
param poisonContainer string

@description('Schedule of Sweep.')
param sweepSchedule string

@description('Keep accepted events for replay.')
param journal bool

@description('Days for which they are kept. 0: for ever.')
param journalRetentionDays int

@description('Days for which the history of the targets is kept. 0: for ever.')
param historyRetentionDays int

@description('Where traces and metrics are sent by OTLP over HTTP. Empty: nowhere.')
param otlpEndpoint string

@description('Endpoint of the topic of outcome events.')
param outcomeEndpoint string

@description('Level of the handler\'s log.')
param logLevel string

@description('Instances of Ingest and of Reconcile that are always running, each.')
param alwaysReady int

@description('Upper bound of instances.')
param maximumInstances int

@description('Memory of an instance in MB.')
param instanceMemory int

@description('Version of the runtime "custom".')
param runtimeVersion string

@description('Subnet for outgoing traffic. Empty: none.')
param subnetId string

@description('The app is reachable from the internet.')
param public bool

@description('The host\'s storage account is reachable from the internet.')
param hostPublic bool

var blobDataOwner = 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
var packageContainerName = 'package'

// In other clouds than the public one the handler must be told where Azure Resource Manager is.
var cloudSettings = environment().name == 'AzureCloud' ? {} : {
  ArmEndpoint: environment().resourceManager
  ArmAudience: environment().authentication.audiences[0]
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource host 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: hostAccountName
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: hostPublic ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: hostPublic ? 'Allow' : 'Deny'
      bypass: 'None'
    }
  }
}

resource hostBlobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: host
  name: 'default'
}

resource package 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: hostBlobs
  name: packageContainerName
  properties: { publicAccess: 'None' }
}

// The host needs Owner for its leases and keys. Source: "Connecting to host storage with an identity".
resource hostOwner 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(host.id, identityPrincipalId, blobDataOwner)
  scope: host
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataOwner)
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${name}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true // Linux
  }
}

resource site 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: public ? 'Enabled' : 'Disabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${host.properties.primaryEndpoints.blob}${packageContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'custom'
        version: runtimeVersion
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: maximumInstances
        // The two functions between a route that dies and the table that follows. Sweep and Status may start cold.
        alwaysReady: alwaysReady == 0 ? [] : [
          {
            name: 'function:Ingest'
            instanceCount: alwaysReady
          }
          {
            name: 'function:Reconcile'
            instanceCount: alwaysReady
          }
        ]
      }
    }
  }
  dependsOn: [package, hostOwner]
}

// FUNCTIONS_WORKER_RUNTIME and FUNCTIONS_EXTENSION_VERSION are not set: this plan takes the runtime from functionAppConfig.
resource settings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: site
  name: 'appsettings'
  properties: union(cloudSettings, {
    AzureWebJobsStorage__blobServiceUri: host.properties.primaryEndpoints.blob
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__clientId: identityClientId
    APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
    ServiceBusConnection__fullyQualifiedNamespace: busHost
    ServiceBusConnection__credential: 'managedidentity'
    ServiceBusConnection__clientId: identityClientId
    StateConnection__blobServiceUri: stateUri
    StateContainer: stateContainer
    PoisonContainer: poisonContainer
    AZURE_CLIENT_ID: identityClientId
    IdentityObjectId: identityPrincipalId
    OutcomeTopic__topicEndpointUri: outcomeEndpoint
    SweepSchedule: sweepSchedule
    Journal: journal ? 'on' : 'off'
    JournalDays: string(journalRetentionDays)
    HistoryDays: string(historyRetentionDays)
    OTEL_EXPORTER_OTLP_ENDPOINT: otlpEndpoint
    LOG_LEVEL: logLevel
  })
}

// Deployment uses Microsoft Entra ID only.
resource noPublishingPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = [
  for kind in ['scm', 'ftp']: {
    parent: site
    name: kind
    properties: { allow: false }
  }
]

output id string = site.id
output name string = site.name
output hostName string = site.properties.defaultHostName
output hostAccountId string = host.id
