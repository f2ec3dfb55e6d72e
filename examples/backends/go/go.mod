module example.com/tidegate-backend

go 1.22
