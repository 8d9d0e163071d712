"""What every task shares: the record, the loop, the methods and the sparsity core."""
