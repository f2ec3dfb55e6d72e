# app/models/post.rb
# ANCHOR: commit
class Post < ApplicationRecord
  after_create_commit -> { Tidegate.push("general", { type: "post", id: id }) }
end
# ANCHOR_END: commit
