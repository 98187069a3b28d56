module tunnels

go 1.27.3
