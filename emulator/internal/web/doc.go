// Package web is what the emulators that speak HTTP have in common: a server that lives from Start to Close, a script of what goes wrong, a bounded
// log, and words for input that cannot be right. What a service answers is its own affair.
package web
