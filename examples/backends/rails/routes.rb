# config/routes.rb
# ANCHOR: routes
Rails.application.routes.draw do
  post "ws/connect", to: "ws#connect"
  post "ws/default", to: "ws#message"
  post "ws/disconnect", to: "ws#disconnect"
  post "ws-token", to: "tokens#create"
  post "logout", to: "tokens#destroy"
end
# ANCHOR_END: routes
