// Package conformance compares Pointsman's emulators with what others have written: Microsoft's JavaScript client of Service Bus is run against the
// emulated namespace, and the suites that our blob emulator and our document store pass are run against Azurite.
//
// The programs come from npm; js/package-lock.json pins them. test/conformance/run installs them and runs everything.
package conformance
