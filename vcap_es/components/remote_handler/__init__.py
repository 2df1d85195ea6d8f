"""The remote handler: deals with the primary masters of other data centres.

`remote_handler` is the door. `membership` says who takes part, `centre_identities` which log each
of them writes, `definition_sync` and `settings_sync` let all know the same, `hearsay` what is not
believed. Of each shared interval: `shared_interval` is how it stands, `exchange` its dealings,
`gatherer` and `wisher` the two roles in them, `spend_rate` how fast it is used, `closing_books` its
end. `command_forwarder` carries commands to the home of a cap.
"""
