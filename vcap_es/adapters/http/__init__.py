"""The two faces over HTTP: clients at the volumecap servers, operators and auditors at the masters."""
