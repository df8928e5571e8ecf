"""Operations: one module for each thing an administrator can ask for."""
