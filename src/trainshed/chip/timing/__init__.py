"""How long a kernel takes: engines, queues and dependencies over the instruction records of a finished launch."""
