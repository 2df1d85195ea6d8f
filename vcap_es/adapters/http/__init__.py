"""The two faces over HTTP: clients at the servers, operators and auditors at the masters."""
