// Package brokers attacks a broker group of real programs in the lab, while the official
// RocketMQ client sends and receives (test/rmq/load), and has the history of what it saw
// judged (test/lab/history).
package brokers
