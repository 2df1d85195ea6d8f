"""The answers to idempotency keys, in few bytes: `ledger` in memory, `records` in files.

`packed_answers` makes bytes of answers, and the same answers of bytes.
"""
