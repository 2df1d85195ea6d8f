"""Mail between data centres over RabbitMQ: letters, signed and numbered.

`transport` is the door. `topology` names brokers and queues, `connection` is one connection and
`reconnection` keeps it up. `outbox` sends letters, `inbox` takes them, `letters` are how they are
written; `feed` publishes every committed fact for whoever subscribes.
"""
