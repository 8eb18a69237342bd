"""SpladeLite in other people's programs; each module needs only what it is named after."""
