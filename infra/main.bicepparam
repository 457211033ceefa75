using 'main.bicep'

// azd sets these two; with az they are the values at the right.
param environmentName = readEnvironmentVariable('AZURE_ENV_NAME', 'hub-weu')
param location = readEnvironmentVariable('AZURE_LOCATION', 'westeurope')

// The targets of the domain files.
param routeTableIds = [
  // '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-network/providers/Microsoft.Network/routeTables/rt-spoke-1'
]

// The networks whose subnets use those tables.
param virtualNetworkIds = [
  // '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet-spoke-1'
]

// The Route Servers of the domain files, if any.
param routeServerIds = [
  // '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-network/providers/Microsoft.Network/virtualHubs/rs-hub'
]

// az vm show --resource-group RG --name NVA --query identity.principalId
param agentPrincipalIds = []

// az ad signed-in-user show --query id
param operatorPrincipalIds = []

// az monitor action-group show --resource-group RG --name NAME --query id
param actionGroupId = ''
