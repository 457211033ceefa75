package main

// lab says where the real NVAs live.
type lab struct {
	dir        string // for configuration, state and logs
	agent      string // the agent's executable
	bus        string // host:port of the broker, on the loopback outside
	connection string // connection string for the agents
}
