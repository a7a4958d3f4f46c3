# SPDX-License-Identifier: Apache-2.0
"""`python -m pluri` is the `pluri` command."""

from .cli import main

if __name__ == "__main__":
    main()
