"""Files that must outlive the machine.

`ballots` and `ballot_file` keep a voter's ballot, `journal_files` and `key_journal` a server's
journal, `snapshot_files` snapshots of a state, `cluster_file` which cluster a server is of,
`master_addresses_file` where masters were; `framing` and `durable_files` are what they share.
"""
