// Package funchost imitates the Azure Functions host (4.x, Service Bus extension 5.17) for one custom handler.
//
// It runs a staged app root (host.json, the handler's executable, one folder with a function.json per function) the way
// the real host does: it starts and restarts the handler process, listens on Service Bus queues with the real client
// library, keeps timer schedules, serves the Event Grid webhook, HTTP routes and the admin endpoint, and turns every
// event into the POST that a custom handler receives.
//
// It imitates the vendor's contract and knows nothing of the application: where the real host is unpleasant (a batch
// is abandoned as a whole, an empty answer hangs, an empty port fails every call) it is unpleasant in the same way.
// Tests name the line of the functions-host contract that they check, as in TestC6_BatchPayload.
//
// Sources: azure-functions-host, azure-webjobs-sdk and azure-webjobs-sdk-extensions, the Service Bus and Event Grid
// extensions in azure-sdk-for-net; https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers.
package funchost
