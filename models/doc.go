// Package models holds Promela models of the three protocols that no test can cover by running them: what happens when two handlers, a crash and
// a message that comes twice meet at the worst moment. Spin visits every state of them; docs/models.md says what they show.
package models
