module goproxy

go 1.27.3
