// The workbook over the log: what was written, how fast, and what went wrong.

@description('Unique part of the names.')
param token string

@description('Region.')
param location string

@description('Tags.')
param tags object

@description('The log workspace.')
param workspaceId string

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(workspaceId, token)
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Pointsman'
    category: 'workbook'
    sourceId: workspaceId
    serializedData: loadTextContent('../workbook.json')
  }
}
