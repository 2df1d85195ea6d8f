"""`python -m vcap_es` is `vcap`."""

from vcap_es.cli import main

if __name__ == "__main__":
    main()
