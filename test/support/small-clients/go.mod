module small-clients

go 1.24

require github.com/ws-service/ws-service/clients/go v0.0.0

require github.com/coder/websocket v1.8.15 // indirect

replace github.com/ws-service/ws-service/clients/go => ../../../clients/go
