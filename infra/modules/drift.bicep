// Azure tells the function Drift of writes to the route tables and Route Servers of one resource group: an event subscription on that group.

@description('Name of the subscription, unique in the resource group.')
param name string

@description('Resource id of the function: ID-OF-THE-APP/functions/Drift. It must exist, so the code is deployed first.')
param functionId string

// The function itself tells which tables are targets and whose write it was; the filter only keeps the rest of the network away. Filters compare
// without case. Sources: "Azure resource group as an Event Grid source", "Understand event filtering for Event Grid subscriptions".
resource writes 'Microsoft.EventGrid/eventSubscriptions@2022-06-15' = {
  name: name
  properties: {
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: functionId
        maxEventsPerBatch: 1
      }
    }
    eventDeliverySchema: 'EventGridSchema'
    filter: {
      includedEventTypes: [
        'Microsoft.Resources.ResourceWriteSuccess'
        'Microsoft.Resources.ResourceDeleteSuccess'
      ]
      advancedFilters: [
        {
          operatorType: 'StringBeginsWith'
          key: 'data.operationName'
          values: ['Microsoft.Network/routeTables/', 'Microsoft.Network/virtualHubs/']
        }
      ]
    }
    retryPolicy: {
      maxDeliveryAttempts: 30
      eventTimeToLiveInMinutes: 60 // by then the sweep has looked many times
    }
  }
}
