// Package azure holds the adapters between Pointsman's vocabulary and Azure: the only folders that import the Azure SDK. Each
// adapter states the order of its effects, turns every failure into a fault kind with advice, and keeps no secret in an error.
//
//	identity     who we are: managed identity, or a person's sign-in
//	servicebus   messages out; linked by the agent, hence kept small
//	blob         documents by compare-and-swap
//	routetable   route tables by conditional PUT
package azure
