"""Several processes that train one stage together: how they find each other, exchange, notice a loss and end."""
